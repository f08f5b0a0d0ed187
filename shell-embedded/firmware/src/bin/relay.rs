//! A relay between two UARTs of QEMU's `mps2-an386`, with a console on the third.
//!
//! Who it is and whom it links to stands in its flash, where `blvm-mesh board-config` has
//! written it. Without that it says so and does nothing.
#![no_std]
#![no_main]

use blvm_mesh_core::board::BoardConfig;
use blvm_mesh_core::link::aead::RustCrypto;
use blvm_mesh_embedded::{Board, BoardMemory, FlashStore, Report, Role, StoreError, run_seed};
use blvm_mesh_firmware::chip::{Machine, configured, follow_headers};
use blvm_mesh_firmware::mps2::{Console, Mps2, ResetProof, Uart, configuration};
use blvm_mesh_firmware::{heap_used, init_heap, paint_stack, panicked, stack_used};
use cortex_m_rt::entry;
use static_cell::{ConstStaticCell, StaticCell};

/// Ports of the board.
const PORTS: usize = 2;
/// Packets of 1,024 bytes, queues of 2,048 and frames of 314.
type Memory = BoardMemory<RustCrypto, PORTS, 1040, 2064, 320>;
type Relay = Board<RustCrypto, Uart, PORTS>;

static MEMORY: ConstStaticCell<Memory> = ConstStaticCell::new(Memory::EMPTY);
static RELAY: StaticCell<Relay> = StaticCell::new();
static STORE: StaticCell<FlashStore<ResetProof>> = StaticCell::new();

/// The relay, in its place. Functions of their own: their stack is free again afterwards.
#[inline(never)]
fn make(report: &mut Report<Console>) -> Option<&'static mut Relay> {
    // Looked at where it is: moved, it would take its stack twice.
    let configured = configured(configuration(), report);
    let Some((settings, roles)) = &configured else { return None };
    let (flash, start) = ResetProof::take();
    let store = open_store(flash).map_err(|error| report.line(format_args!("{error}"))).ok()?;
    let relay = assemble(settings, *roles, start, store);
    report.begin(settings, relay.mesh(), start);
    follow_headers(relay, settings, report);
    Some(relay)
}

#[inline(never)]
fn open_store(flash: ResetProof) -> Result<&'static mut FlashStore<ResetProof>, StoreError> {
    FlashStore::new(flash, 0..ResetProof::SIZE).map(|store| STORE.init(store))
}

#[inline(never)]
fn assemble(
    settings: &BoardConfig,
    [role0, role1]: [Role; PORTS],
    start: u32,
    store: &'static mut FlashStore<ResetProof>,
) -> &'static mut Relay {
    let [uart0, uart1] = Uart::lines(settings.baud);
    let (seed, ports) = (run_seed(&settings.secret, start, &[]), [(uart0, role0), (uart1, role1)]);
    RELAY.init_with(|| {
        let (memory, config) = (MEMORY.take(), settings.config());
        Relay::with_storage(memory, config, settings.key, seed, ports, store)
    })
}

fn run(relay: &mut Relay, report: Report<Console>) -> ! {
    relay.run(&mut Machine { chip: Mps2::start(), report })
}

#[entry]
fn main() -> ! {
    init_heap();
    paint_stack();
    let mut report = Report::new(Console::open());
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
    panicked(&mut Console::open());
    cortex_m::peripheral::SCB::sys_reset()
}
