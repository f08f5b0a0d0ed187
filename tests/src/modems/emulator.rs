//! Emulated modems in real time, on a thread of their own.

use super::emulation::{Counts, Emulation, OnAir, World};
use super::firmware::Dialect;
use super::order::{Order, OrderError};
use super::port::{Got, Port, Ports};
use blvm_mesh_core::time::Micros;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Bytes that a modem takes before others have their turn, and what it says in between is written.
const PORTION: usize = 64;
const PORTIONS: usize = 16;
/// Most bytes that wait for a host outside of the modem.
const UNWRITTEN: usize = 256;
/// How often it is tried whether a host has opened a terminal.
const TRY: Duration = Duration::from_millis(20);
const IDLE: Duration = Duration::from_secs(1);

/// What is to be emulated, and where its hosts find it.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Modems and channel.
    pub world: World,
    /// Their ports.
    pub ports: Ports,
    /// Whether a modem is reset when a host opens it, as ESP32 boards are whose USB bridge has its DTR and
    /// RTS at the reset pin. It starts for a second then, and hears nothing.
    pub reset_on_open: bool,
    /// How many times as fast as real time it runs. Above 0.
    pub time_scale: f64,
}

impl Setup {
    /// These modems, all hearing each other well, at terminals, in real time.
    pub fn of(modems: &[Dialect]) -> Self {
        let (world, ports) = (World::of(modems), Ports::default());
        Self { world, ports, reset_on_open: false, time_scale: 1.0 }
    }
}

/// What an emulator tells while it runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Told {
    /// A modem has a port.
    Device {
        /// Which modem.
        modem: usize,
        /// Its dialect.
        dialect: Dialect,
        /// The terminal's path, or address and port.
        device: String,
    },
    /// Something happened on the air.
    OnAir(OnAir),
}

/// What the thread is asked.
enum Request {
    Order(Order, Sender<Result<(), OrderError>>),
    Counts(usize, Sender<Counts>),
}

/// Running modems. They end when it is dropped.
pub struct Emulator {
    requests: Sender<Request>,
    wake: Option<UnixStream>,
    devices: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // The thread ends when the other end of this is gone.
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Emulator {
    /// Starts modems. `tell` is called on their thread, with their ports first, before this returns.
    ///
    /// # Errors
    /// If a port cannot be opened.
    pub fn start(
        setup: &Setup,
        mut tell: impl FnMut(&Told) + Send + 'static,
    ) -> Result<Self, OrderError> {
        let modems = setup.world.modems.len();
        let open = |modem| Port::new(&setup.ports, modem);
        let ports = (0..modems).map(open).collect::<Result<Vec<_>, _>>()?;
        let (wake, woken) = UnixStream::pair().map_err(OrderError::Port)?;
        for end in [&wake, &woken] {
            end.set_nonblocking(true).map_err(OrderError::Port)?;
        }
        let devices: Vec<String> = ports.iter().map(Port::name).collect();
        for (modem, device) in devices.iter().enumerate() {
            let dialect = setup.world.modems[modem];
            tell(&Told::Device { modem, dialect, device: device.clone() });
        }
        let devices = Arc::new(Mutex::new(devices));
        let (requests, received) = channel();
        let mut running = Running {
            dialects: setup.world.modems.clone(),
            emulation: Emulation::new(&setup.world),
            ports,
            unwritten: vec![Vec::new(); modems],
            devices: devices.clone(),
            requests: received,
            woken,
            tell: Box::new(tell),
            start: Instant::now(),
            reset_on_open: setup.reset_on_open,
            scale: setup.time_scale,
        };
        let thread = std::thread::Builder::new().name("modems".to_owned());
        let thread = thread.spawn(move || running.run()).map_err(OrderError::Port)?;
        Ok(Self { requests, wake: Some(wake), devices, thread: Some(thread) })
    }

    /// Where a modem is: a path, or address and port. A terminal without a link has another path after it
    /// was pulled out.
    ///
    /// # Panics
    /// If there is no such modem.
    pub fn device(&self, modem: usize) -> String {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)[modem].clone()
    }

    /// Carries out an order, and returns when it is done.
    ///
    /// # Errors
    /// If there is no such modem, or its port cannot be opened.
    pub fn order(&self, order: Order) -> Result<(), OrderError> {
        self.ask(|answer| Request::Order(order, answer)).unwrap_or(Err(OrderError::Ended))
    }

    /// What a modem did on the air so far.
    ///
    /// # Panics
    /// If there is no such modem, or the emulator has ended by a defect.
    pub fn counts(&self, modem: usize) -> Counts {
        assert!(modem < self.devices.lock().unwrap_or_else(PoisonError::into_inner).len());
        self.ask(|answer| Request::Counts(modem, answer)).expect("the emulator runs")
    }

    fn ask<T>(&self, request: impl FnOnce(Sender<T>) -> Request) -> Option<T> {
        let (answer, answered) = channel();
        self.requests.send(request(answer)).ok()?;
        // If it is full already, the thread is woken anyway.
        let _ = self.wake.as_ref()?.write(&[0]);
        answered.recv().ok()
    }
}

struct Running {
    dialects: Vec<Dialect>,
    emulation: Emulation,
    ports: Vec<Port>,
    /// What waits for each host.
    unwritten: Vec<Vec<u8>>,
    devices: Arc<Mutex<Vec<String>>>,
    requests: Receiver<Request>,
    woken: UnixStream,
    tell: Box<dyn FnMut(&Told) + Send>,
    start: Instant,
    reset_on_open: bool,
    scale: f64,
}

impl Running {
    fn now(&self) -> Micros {
        (self.start.elapsed().as_secs_f64() * 1e6 * self.scale) as Micros
    }

    fn run(&mut self) {
        loop {
            for modem in 0..self.ports.len() {
                self.serve(modem);
            }
            self.emulation.advance(self.now());
            (0..self.ports.len()).for_each(|modem| self.write(modem));
            for event in self.emulation.happened() {
                (self.tell)(&Told::OnAir(event));
            }
            self.wait();
            if !self.obey() {
                return;
            }
        }
    }

    /// Takes what a host has sent, and answers.
    fn serve(&mut self, modem: usize) {
        let mut bytes = [0; PORTION];
        for _ in 0..PORTIONS {
            let had_host = self.ports[modem].has_host();
            let got = self.ports[modem].read(&mut bytes);
            if self.reset_on_open && !had_host && self.ports[modem].has_host() {
                let now = self.now();
                self.emulation.order(&Order::Reset(modem), now).expect("it is there");
            }
            let Got::Bytes(count) = got else { return };
            self.emulation.feed(modem, &bytes[..count], self.now());
            self.write(modem);
        }
    }

    fn write(&mut self, modem: usize) {
        loop {
            let unwritten = &mut self.unwritten[modem];
            if unwritten.len() < UNWRITTEN {
                let now = (self.start.elapsed().as_secs_f64() * 1e6 * self.scale) as Micros;
                let room = UNWRITTEN - unwritten.len();
                unwritten.extend(self.emulation.take_output(modem, room, now));
            }
            if unwritten.is_empty() {
                return;
            }
            let written = self.ports[modem].write(unwritten);
            unwritten.drain(..written);
            if written == 0 {
                return;
            }
        }
    }

    /// Waits until a host, a request or time gives something to do.
    fn wait(&self) {
        let mut longest = IDLE;
        if self.ports.iter().any(Port::must_be_tried) {
            longest = TRY;
        }
        if let Some(due) = self.emulation.due() {
            let real_us = due.saturating_sub(self.now()) as f64 / self.scale;
            longest = longest.min(Duration::from_micros(real_us.ceil() as u64));
        }
        let mut waited = vec![PollFd::new(&self.woken, PollFlags::IN)];
        for (port, unwritten) in self.ports.iter().zip(&self.unwritten) {
            let Some(fd) = port.waits_for() else { continue };
            let write = !unwritten.is_empty() && port.has_host();
            let flags = if write { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
            waited.push(PollFd::from_borrowed_fd(fd, flags));
        }
        let timeout =
            Timespec { tv_sec: longest.as_secs() as _, tv_nsec: longest.subsec_nanos().into() };
        // If it was interrupted, the next turn waits again.
        let _ = poll(&mut waited, Some(&timeout));
    }

    /// Does what it was asked; false if nobody asks any more.
    fn obey(&mut self) -> bool {
        let mut bytes = [0; 64];
        while let Ok(count) = self.woken.read(&mut bytes) {
            if count == 0 {
                return false;
            }
        }
        loop {
            // Who asked may have gone meanwhile.
            let _ = match self.requests.try_recv() {
                Ok(Request::Counts(modem, answer)) => {
                    answer.send(self.emulation.counts(modem)).is_ok()
                }
                Ok(Request::Order(order, answer)) => answer.send(self.order(&order)).is_ok(),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            };
        }
    }

    fn order(&mut self, order: &Order) -> Result<(), OrderError> {
        let now = self.now();
        let garbage = self.emulation.order(order, now)?;
        match order {
            // A host that does not read gets no more of it.
            Order::Garbage(modem, _) if self.unwritten[*modem].len() <= UNWRITTEN => {
                self.unwritten[*modem].extend(garbage);
            }
            Order::Pull(modem) => {
                self.ports[*modem].pull();
                self.unwritten[*modem].clear();
            }
            Order::Plug(modem) => {
                let (modem, dialect) = (*modem, self.dialects[*modem]);
                self.ports[modem].plug()?;
                let device = self.ports[modem].name();
                let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
                devices[modem].clone_from(&device);
                drop(devices);
                (self.tell)(&Told::Device { modem, dialect, device });
            }
            _ => {}
        }
        Ok(())
    }
}
