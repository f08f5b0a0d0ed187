//! A relay on a RAK4631 (nRF52840 and SX1262): a LoRa channel, a serial line, and a console.
//!
//! Who it is, its channel and whom its line links to stands in its flash, where `blvm-mesh
//! board-config --board rak4631` has written it. Without that it says so and does nothing.
//!
//! Pins are those of RAK's own package for it (`variants/WisCore_RAK4631_Board/variant.h` in
//! RAKWireless/RAK-nRF52-Arduino) and of RNode's (`Boards.h`).
#![no_std]
#![no_main]

use blvm_mesh_core::board::{BoardConfig, radio::RadioConfig};
use blvm_mesh_core::link::aead::RustCrypto;
use blvm_mesh_embedded::radio::{Radio, RadioChannel, Sx1262};
use blvm_mesh_embedded::{
    Board, BoardMemory, FlashStore, Report, Role, Serial, StoreError, run_seed,
};
use blvm_mesh_firmware::chip::{Machine, configured, follow_headers};
use blvm_mesh_firmware::nrf52840::{
    Console, Cycles, Dma, Flash, Input, Light, Nrf52840, Output, Spim, Uarte, configuration, random,
};
use blvm_mesh_firmware::{heap_used, init_heap, own_vectors, paint_stack, panicked, stack_used};
use cortex_m_rt::entry;
use static_cell::{ConstStaticCell, StaticCell};

/// Pins of P1 are counted on from those of P0.
const P1: u32 = 32;
/// The line: TXD1 and RXD1 of the base board.
const LINE: [u32; 2] = [16, 15];
/// The console: TXD0.
const CONSOLE: u32 = 20;
/// The green light.
const LIGHT: Light = Light { pin: P1 + 3, is_on_high: true };
/// The radio: its supply, its bus, and its other pins.
const RADIO_POWER: u32 = P1 + 5;
const RADIO_RESET: u32 = P1 + 6;
const RADIO_SELECT: u32 = P1 + 10;
const RADIO_CLOCK: u32 = P1 + 11;
const RADIO_OUT: u32 = P1 + 12;
const RADIO_IN: u32 = P1 + 13;
const RADIO_BUSY: u32 = P1 + 14;
const RADIO_DIO1: u32 = P1 + 15;

/// Where payments and accounts are, and the configuration behind them (`memory/rak4631.x`).
const STORE: u32 = 0x000a_4000;
const CONFIGURATION: u32 = 0x000a_c000;

/// Packets of 1,024 bytes, queues of 2,048 and frames of 314 on the line.
type Memory = BoardMemory<RustCrypto, 1, 1040, 2064, 320>;
type Modem = Sx1262<Spim, Input, Input, Output, Cycles>;
/// Neighbours on the air: the channel takes 12 KiB for each, and at the start as much of the stack.
const NEIGHBOURS: usize = 6;
type OnAir = Radio<RustCrypto, Modem, NEIGHBOURS, 2064>;
type Relay = Board<RustCrypto, Serial<Uarte>, 1, OnAir>;

static MEMORY: ConstStaticCell<Memory> = ConstStaticCell::new(Memory::EMPTY);
static CHANNEL: StaticCell<RadioChannel<RustCrypto, NEIGHBOURS, 2064>> = StaticCell::new();
static RELAY: StaticCell<Relay> = StaticCell::new();
static STORED: StaticCell<FlashStore<Flash>> = StaticCell::new();
static DMA: ConstStaticCell<Dma> = ConstStaticCell::new(Dma::EMPTY);

/// The relay, in its place. Functions of their own: their stack is free again afterwards.
#[inline(never)]
fn make(report: &mut Report<Console>) -> Option<&'static mut Relay> {
    // SAFETY: the memory map has the image end before it.
    let page = unsafe { configuration(CONFIGURATION) };
    // Looked at where it is: moved, it would take its stack twice.
    let configured = configured(page, report);
    let Some((settings, [role])) = &configured else { return None };
    let radio = settings.radio.as_ref().map(RadioConfig::read);
    let Some(radio) = radio else {
        report.line(format_args!(
            "this board has a radio: give its channel with `blvm-mesh board-config --radio`"
        ));
        return None;
    };
    let radio = radio.map_err(|error| report.line(format_args!("{error}"))).ok()?;
    // SAFETY: as above, and it is taken once.
    let flash = unsafe { Flash::take(STORE) };
    let store = open_store(flash).map_err(|error| report.line(format_args!("{error}"))).ok()?;
    let relay = assemble(settings, *role, &radio, store);
    report.begin(settings, relay.mesh(), 0);
    follow_headers(relay, settings, report);
    Some(relay)
}

#[inline(never)]
fn open_store(flash: Flash) -> Result<&'static mut FlashStore<Flash>, StoreError> {
    FlashStore::new(flash, 0..Flash::SIZE).map(|store| STORED.init(store))
}

#[inline(never)]
fn assemble(
    settings: &BoardConfig,
    role: Role,
    radio: &RadioConfig,
    store: &'static mut FlashStore<Flash>,
) -> &'static mut Relay {
    let line = Uarte::open(0, settings.baud, LINE, DMA.take());
    // The hardware's randomness is new at each start.
    let seed = |number| run_seed(&settings.secret, number, &random());
    let ports = [(Serial(line), role)];
    RELAY.init_with(|| {
        let (memory, mut config) = (MEMORY.take(), settings.config());
        radio.suit(&mut config);
        Relay::with_radio(memory, config, settings.key, seed(0), ports, store, |public_key| {
            let channel = CHANNEL.init_with(|| OnAir::channel(radio, seed(1), public_key));
            OnAir::new(radio, modem(radio), channel)
        })
    })
}

fn modem(radio: &RadioConfig) -> Modem {
    Output::new(RADIO_POWER, true);
    let bus = Spim::open(RADIO_SELECT, RADIO_CLOCK, RADIO_OUT, RADIO_IN);
    let (busy, dio1) = (Input::new(RADIO_BUSY), Input::waking(RADIO_DIO1));
    Sx1262::new(radio, bus, busy, dio1, Output::new(RADIO_RESET, true), Cycles)
}

fn run(relay: &mut Relay, report: Report<Console>) -> ! {
    relay.run(&mut Machine { chip: Nrf52840::start(LIGHT), report })
}

#[entry]
fn main() -> ! {
    own_vectors();
    init_heap();
    paint_stack();
    let mut report = Report::new(Console::open(CONSOLE));
    match make(&mut report) {
        Some(relay) => {
            let stack = stack_used();
            paint_stack();
            report
                .line(format_args!("ready: {stack} bytes of stack, {} bytes of heap", heap_used()));
            run(relay, report)
        }
        None => loop {
            cortex_m::asm::wfi();
        },
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    panicked(&mut Console::conjure());
    cortex_m::peripheral::SCB::sys_reset()
}
