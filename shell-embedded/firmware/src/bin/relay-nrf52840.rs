//! A relay between the two UARTs of an nRF52840, with a console over the debugger (RTT) and the pins of
//! Nordic's development kit: line 0 on P0.06 (out) and P0.08 (in), which is the kit's USB serial port,
//! line 1 on P1.02 and P1.01, a light on P0.13.
//!
//! Who it is and whom it links to stands in its flash, where `blvm-mesh board-config` has
//! written it. Without that it says so and does nothing.
#![no_std]
#![no_main]

use blvm_mesh_core::board::BoardConfig;
use blvm_mesh_core::link::aead::RustCrypto;
use blvm_mesh_embedded::{
    Board, BoardMemory, FlashStore, Report, Role, Serial, StoreError, run_seed,
};
use blvm_mesh_firmware::chip::{Machine, configured, follow_headers};
use blvm_mesh_firmware::nrf52840::{Dma, Flash, Light, Nrf52840, Uarte, configuration, random};
use blvm_mesh_firmware::{heap_used, init_heap, paint_stack, panicked, stack_used};
use cortex_m_rt::entry;
use rtt_target::{UpChannel, rtt_init};
use static_cell::{ConstStaticCell, StaticCell};

/// Pins of the lines, out and in.
const LINES: [[u32; 2]; PORTS] = [[6, 8], [32 + 2, 32 + 1]];
const LIGHT: Light = Light { pin: 13, is_on_high: false };
/// The last page of the flash has the configuration, the eight before it payments and accounts
/// (`memory/nrf52840.x`).
const CONFIGURATION: u32 = 0x000f_f000;
const STORE: u32 = 0x000f_7000;
/// Ports of the board.
const PORTS: usize = 2;
/// Packets of 1,024 bytes, queues of 2,048 and frames of 314.
type Memory = BoardMemory<RustCrypto, PORTS, 1040, 2064, 320>;
type Relay = Board<RustCrypto, Serial<Uarte>, PORTS>;

static MEMORY: ConstStaticCell<Memory> = ConstStaticCell::new(Memory::EMPTY);
static RELAY: StaticCell<Relay> = StaticCell::new();
static STORED: StaticCell<FlashStore<Flash>> = StaticCell::new();
static DMA: ConstStaticCell<[Dma; PORTS]> = ConstStaticCell::new([Dma::EMPTY; PORTS]);

/// The relay, in its place. Functions of their own: their stack is free again afterwards.
#[inline(never)]
fn make(report: &mut Report<UpChannel>) -> Option<&'static mut Relay> {
    // Looked at where it is: moved, it would take its stack twice.
    // SAFETY: the memory map has the image end before it.
    let configured = configured(unsafe { configuration(CONFIGURATION) }, report);
    let Some((settings, roles)) = &configured else { return None };
    // SAFETY: as above, and it is taken once.
    let flash = unsafe { Flash::take(STORE) };
    let store = open_store(flash).map_err(|error| report.line(format_args!("{error}"))).ok()?;
    let relay = assemble(settings, *roles, store);
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
    [role0, role1]: [Role; PORTS],
    store: &'static mut FlashStore<Flash>,
) -> &'static mut Relay {
    let [dma0, dma1] = DMA.take();
    let line0 = Uarte::open(0, settings.baud, LINES[0], dma0);
    let line1 = Uarte::open(1, settings.baud, LINES[1], dma1);
    // The hardware's randomness is new at each start.
    let seed = run_seed(&settings.secret, 0, &random());
    let ports = [(Serial(line0), role0), (Serial(line1), role1)];
    RELAY.init_with(|| {
        let (memory, config) = (MEMORY.take(), settings.config());
        Relay::with_storage(memory, config, settings.key, seed, ports, store)
    })
}

fn run(relay: &mut Relay, report: Report<UpChannel>) -> ! {
    relay.run(&mut Machine { chip: Nrf52840::start(LIGHT), report })
}

#[entry]
fn main() -> ! {
    init_heap();
    paint_stack();
    let channels = rtt_init! { up: { 0: { size: 2048, name: "blvm-mesh" } } };
    let mut report = Report::new(channels.up.0);
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
    // SAFETY: whoever had the channel runs no more.
    if let Some(mut channel) = unsafe { UpChannel::conjure(0) } {
        panicked(&mut channel);
    }
    cortex_m::peripheral::SCB::sys_reset()
}
