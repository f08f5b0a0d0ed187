//! Semtech's SX1262, over any SPI device and pins of the `embedded-hal` traits: with an oscillator of
//! 1.8 V at DIO3 and the antenna's switch at DIO2, as modules such as the RAK4631 have it.
//!
//! Frames go out with the sync word, preamble, explicit header, CRC and low data rate optimisation
//! of RNode's firmware, and with the workarounds of the datasheet's section 15 that this needs.

mod commands;

use super::{MAX_BYTES, Modem, ModemError, Signal};
use blvm_mesh_core::board::radio::RadioConfig;
use blvm_mesh_core::link::channel::lora::{self, MAX_FRAME};
use blvm_mesh_core::time::{Micros, SECOND};
use commands::{irq, op, register};
use embedded_hal::delay::DelayNs;
use embedded_hal::digital::{InputPin, OutputPin};
use embedded_hal::spi::{Operation, SpiDevice};

/// How long the chip may be busy with a command, in steps of some microseconds: a calibration with
/// its oscillator's start takes 20 ms.
const BUSY_STEPS: u32 = 5_000;
const BUSY_STEP_US: u32 = 10;
/// After its chip select goes up BUSY follows within so much (8.3.1: 600 ns).
const BUSY_FOLLOWS_US: u32 = 1;
/// Pulse on RESET, at least 100 us (8.1), and the time until the chip has woken.
const RESET_US: u32 = 200;
const WAKES_MS: u32 = 5;
/// How often it is asked whether it still listens.
const LOOK: Micros = 10 * SECOND;
/// How much longer than it should a frame may take before the chip itself gives up, and before
/// it is given up here.
const LATE: Micros = SECOND;
/// Symbols behind a preamble within which the header is there: sync word and header, doubled.
const HEADER_SYMBOLS: u64 = 2 * (4 + 8) + 1;
/// How often, and how long apart, the channel's power is measured before a frame: over 5 ms (ARIB
/// STD-T108, section 3.4.1).
const MEASUREMENTS: u32 = 11;
const MEASURED_EACH_US: u32 = 500;

/// The chip and its settings.
pub struct Sx1262<S, B, I, R, D> {
    spi: S,
    busy: B,
    dio1: I,
    reset: R,
    delay: D,
    frequency_hz: u32,
    power_dbm: i8,
    modem: lora::Modem,
    listen_dbm: Option<i8>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Off,
    /// Somebody is heard until then at the latest; when it is looked after.
    Listening {
        heard_until: Option<Micros>,
        look_at: Micros,
    },
    /// The frame is out at the latest then.
    Sending {
        until: Micros,
    },
}

impl<S, B, I, R, D> Sx1262<S, B, I, R, D>
where
    S: SpiDevice,
    B: InputPin,
    I: InputPin,
    R: OutputPin,
    D: DelayNs,
{
    /// A chip behind `spi` (mode 0, up to 16 MHz) and pins, with the settings of a channel. Nothing is
    /// done with it yet.
    pub fn new(config: &RadioConfig, spi: S, busy: B, dio1: I, reset: R, delay: D) -> Self {
        let RadioConfig { frequency_hz, power_dbm, modem, listen_dbm, .. } = *config;
        let state = State::Off;
        Self { spi, busy, dio1, reset, delay, frequency_hz, power_dbm, modem, listen_dbm, state }
    }

    /// Waits until the chip takes a command.
    fn ready(&mut self) -> Result<(), ModemError> {
        for _ in 0..BUSY_STEPS {
            if self.busy.is_low().map_err(|_| ModemError::Bus)? {
                return Ok(());
            }
            self.delay.delay_us(BUSY_STEP_US);
        }
        Err(ModemError::Busy)
    }

    fn transaction(&mut self, operations: &mut [Operation<'_, u8>]) -> Result<(), ModemError> {
        self.ready()?;
        self.spi.transaction(operations).map_err(|_| ModemError::Bus)?;
        self.delay.delay_us(BUSY_FOLLOWS_US);
        Ok(())
    }

    fn command(&mut self, code: u8, arguments: &[u8]) -> Result<(), ModemError> {
        self.transaction(&mut [Operation::Write(&[code]), Operation::Write(arguments)])
    }

    /// Asks for something; the first byte of the answer is the status.
    fn ask<const N: usize>(&mut self, code: u8) -> Result<[u8; N], ModemError> {
        let mut answer = [0; N];
        self.transaction(&mut [Operation::Write(&[code]), Operation::Read(&mut answer)])?;
        Ok(answer)
    }

    fn write_register<const N: usize>(
        &mut self,
        address: u16,
        value: [u8; N],
    ) -> Result<(), ModemError> {
        let [high, low] = address.to_be_bytes();
        let head = [op::WRITE_REGISTER, high, low];
        self.transaction(&mut [Operation::Write(&head), Operation::Write(&value)])
    }

    fn read_register<const N: usize>(&mut self, address: u16) -> Result<[u8; N], ModemError> {
        let ([high, low], mut value) = (address.to_be_bytes(), [0; N]);
        let head = [op::READ_REGISTER, high, low, 0];
        self.transaction(&mut [Operation::Write(&head), Operation::Read(&mut value)])?;
        Ok(value)
    }

    fn change_register(
        &mut self,
        address: u16,
        change: impl Fn(u8) -> u8,
    ) -> Result<(), ModemError> {
        let [value] = self.read_register(address)?;
        self.write_register(address, [change(value)])
    }

    fn set_packet(&mut self, len: u8) -> Result<(), ModemError> {
        self.command(op::SET_PACKET_PARAMS, &commands::packet(&self.modem, len))?;
        // 15.4: with the command the bit for IQ that is not inverted is gone.
        self.change_register(register::IQ_POLARITY, |value| value | 0x04)
    }

    fn clear_interrupts(&mut self, flags: u16) -> Result<(), ModemError> {
        self.command(op::CLEAR_IRQ_STATUS, &flags.to_be_bytes())
    }

    fn listen(&mut self, now: Micros) -> Result<(), ModemError> {
        self.command(op::SET_RX, &commands::CONTINUOUS)?;
        let look_at = now.saturating_add(LOOK);
        self.state = State::Listening { heard_until: None, look_at };
        Ok(())
    }

    /// From nothing to listening, in the order of the datasheet's section 14.
    fn set_up(&mut self, now: Micros) -> Result<(), ModemError> {
        self.reset.set_low().map_err(|_| ModemError::Bus)?;
        self.delay.delay_us(RESET_US);
        self.reset.set_high().map_err(|_| ModemError::Bus)?;
        self.delay.delay_ms(WAKES_MS);
        self.command(op::SET_STANDBY, &[commands::STANDBY_RC])?;
        // It is there if what is written comes back.
        self.write_register(register::SYNC_WORD, commands::SYNC_WORD)?;
        if self.read_register(register::SYNC_WORD)? != commands::SYNC_WORD {
            return Err(ModemError::NoAnswer);
        }
        self.command(op::SET_REGULATOR_MODE, &[1])?;
        self.command(op::SET_DIO3_AS_TCXO_CTRL, &commands::TCXO_1V8)?;
        // That its crystal did not start before it had this supply is no fault (13.3.6).
        self.command(op::CLEAR_DEVICE_ERRORS, &[0, 0])?;
        self.command(op::CALIBRATE, &[commands::ALL_BLOCKS])?;
        let [_, high, low] = self.ask(op::GET_DEVICE_ERRORS)?;
        let errors = u16::from_be_bytes([high, low]);
        if errors != 0 {
            return Err(ModemError::Device(errors));
        }
        self.command(op::SET_DIO2_AS_RF_SWITCH, &[1])?;
        self.command(op::SET_STANDBY, &[commands::STANDBY_XOSC])?;
        self.command(op::CALIBRATE_IMAGE, &commands::image_band(self.frequency_hz))?;
        self.command(op::SET_PACKET_TYPE, &[1])?;
        self.command(op::SET_RF_FREQUENCY, &commands::frequency(self.frequency_hz))?;
        self.command(op::SET_MODULATION_PARAMS, &commands::modulation(&self.modem))?;
        // 15.1: quality of the modulation at 500 kHz, and of the reception elsewhere.
        let wide = self.modem.bandwidth == 500_000;
        self.change_register(register::TX_MODULATION, |value| match wide {
            true => value & !0x04,
            false => value | 0x04,
        })?;
        self.set_packet(MAX_BYTES as u8)?;
        self.write_register(register::SYNC_WORD, commands::SYNC_WORD)?;
        self.command(op::SET_PA_CONFIG, &commands::PA_CONFIG)?;
        // 15.2: resistance to an antenna that does not match.
        self.change_register(register::TX_CLAMP, |value| value | 0x1e)?;
        self.command(op::SET_TX_PARAMS, &[self.power_dbm as u8, commands::RAMP])?;
        self.command(op::SET_BUFFER_BASE_ADDRESS, &[0, 0])?;
        self.command(op::SET_RX_TX_FALLBACK_MODE, &[commands::FALLBACK_XOSC])?;
        self.write_register(register::RX_GAIN, [commands::BOOSTED])?;
        let [high, low] = irq::ALL.to_be_bytes();
        self.command(op::SET_DIO_IRQ_PARAMS, &[high, low, high, low, 0, 0, 0, 0])?;
        self.clear_interrupts(u16::MAX)?;
        self.listen(now)
    }

    /// What it listens to, or that it does not listen any more.
    fn heard(
        &mut self,
        now: Micros,
        flags: u16,
        received: &mut [u8; MAX_BYTES],
    ) -> Result<Option<Signal>, ModemError> {
        let State::Listening { heard_until, look_at } = &mut self.state else { return Ok(None) };
        *look_at = now.saturating_add(LOOK);
        // A header that was none may have come before a whole frame.
        if flags & irq::RX_DONE != 0 && flags & irq::CRC_ERROR == 0 {
            *heard_until = None;
            return self.read(received).map(Some);
        }
        if flags & (irq::HEADER_ERROR | irq::CRC_ERROR) != 0 {
            *heard_until = None;
            return Ok(Some(Signal::Damaged));
        }
        let symbols = match flags {
            _ if flags & irq::HEADER_VALID != 0 => self.modem.airtime_of_frame(MAX_FRAME),
            _ if flags & irq::PREAMBLE != 0 => {
                self.modem.symbols(u64::from(self.modem.preamble) + HEADER_SYMBOLS)
            }
            _ => return Ok(None),
        };
        let was = heard_until.replace(now.saturating_add(symbols));
        Ok(was.is_none().then_some(Signal::Carrier(true)))
    }

    fn read(&mut self, received: &mut [u8; MAX_BYTES]) -> Result<Signal, ModemError> {
        let [_, len, start] = self.ask(op::GET_RX_BUFFER_STATUS)?;
        let room = received.get_mut(..usize::from(len)).unwrap_or_default();
        let head = [op::READ_BUFFER, start, 0];
        self.transaction(&mut [Operation::Write(&head), Operation::Read(room)])?;
        let [_, _, snr, _] = self.ask(op::GET_PACKET_STATUS)?;
        Ok(Signal::Heard { len: usize::from(len), snr: snr as i8 })
    }

    /// What the chip tells, or does not any more.
    fn look(
        &mut self,
        now: Micros,
        received: &mut [u8; MAX_BYTES],
    ) -> Result<Option<Signal>, ModemError> {
        let told = self.dio1.is_high().map_err(|_| ModemError::Bus)?;
        let mut flags = 0;
        if told {
            let [_, high, low] = self.ask(op::GET_IRQ_STATUS)?;
            flags = u16::from_be_bytes([high, low]);
            self.clear_interrupts(flags)?;
        }
        match self.state {
            State::Off => Ok(None),
            State::Sending { .. } if flags & (irq::TX_DONE | irq::TIMEOUT) != 0 => {
                self.listen(now)?;
                Ok(Some(Signal::Sent(flags & irq::TX_DONE != 0)))
            }
            State::Sending { until } if now >= until => Err(ModemError::Stuck),
            State::Sending { .. } => Ok(None),
            State::Listening { .. } if told => self.heard(now, flags, received),
            State::Listening { heard_until: Some(until), look_at } if now >= until => {
                // What looked like a preamble was none.
                self.state = State::Listening { heard_until: None, look_at };
                Ok(Some(Signal::Carrier(false)))
            }
            State::Listening { heard_until, look_at } if now >= look_at => {
                self.expect_mode(commands::MODE_RX)?;
                let look_at = now.saturating_add(LOOK);
                self.state = State::Listening { heard_until, look_at };
                Ok(None)
            }
            State::Listening { .. } => Ok(None),
        }
    }

    /// Whether it does what it was told to.
    fn expect_mode(&mut self, mode: u8) -> Result<(), ModemError> {
        let [status] = self.ask(op::GET_STATUS)?;
        if status >> 4 & 0x07 == mode { Ok(()) } else { Err(ModemError::Restarted) }
    }

    fn begin_to_send(&mut self, now: Micros, bytes: &[u8]) -> Result<(), ModemError> {
        let len = u8::try_from(bytes.len()).map_err(|_| ModemError::Bus)?;
        let airtime = self.modem.airtime(bytes.len());
        // One that has restarted would send at another frequency.
        self.expect_mode(commands::MODE_RX)?;
        self.command(op::SET_STANDBY, &[commands::STANDBY_XOSC])?;
        self.clear_interrupts(u16::MAX)?;
        self.set_packet(len)?;
        let head = [op::WRITE_BUFFER, 0];
        self.transaction(&mut [Operation::Write(&head), Operation::Write(bytes)])?;
        self.command(op::SET_TX, &commands::timeout(airtime.saturating_add(LATE)))?;
        self.expect_mode(commands::MODE_TX)?;
        let until = now.saturating_add(airtime).saturating_add(2 * LATE);
        self.state = State::Sending { until };
        Ok(())
    }
}

impl<S, B, I, R, D> Modem for Sx1262<S, B, I, R, D>
where
    S: SpiDevice,
    B: InputPin,
    I: InputPin,
    R: OutputPin,
    D: DelayNs,
{
    fn start(&mut self, now: Micros) -> Result<(), ModemError> {
        self.state = State::Off;
        self.set_up(now)
    }

    fn poll(
        &mut self,
        now: Micros,
        received: &mut [u8; MAX_BYTES],
    ) -> Result<Option<Signal>, ModemError> {
        self.look(now, received).inspect_err(|_| self.state = State::Off)
    }

    fn poll_timeout(&self) -> Option<Micros> {
        match self.state {
            State::Off => None,
            State::Listening { heard_until, look_at } => {
                Some(heard_until.map_or(look_at, |until| until.min(look_at)))
            }
            State::Sending { until } => Some(until),
        }
    }

    fn is_free(&mut self) -> Result<bool, ModemError> {
        let Some(most) = self.listen_dbm else { return Ok(true) };
        for _ in 0..MEASUREMENTS {
            // In steps of half a dB below 0 dBm (13.5.4).
            let [_, power] = self.ask(op::GET_RSSI_INST)?;
            if -i16::from(power) >= 2 * i16::from(most) {
                return Ok(false);
            }
            self.delay.delay_us(MEASURED_EACH_US);
        }
        Ok(true)
    }

    fn send(&mut self, now: Micros, bytes: &[u8]) -> Result<(), ModemError> {
        self.begin_to_send(now, bytes).inspect_err(|_| self.state = State::Off)
    }
}
