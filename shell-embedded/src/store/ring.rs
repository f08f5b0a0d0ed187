//! Items of one length in a ring of flash pages, so that all pages wear alike.
//!
//! Pages are filled one after the other, and the one after the newest is always erased. Once the
//! newest is full the next page takes over what is still wanted of the oldest, gets a mark that
//! it has, and the oldest is erased.
//!
//! That bears a cut of the power anywhere: a newest page without its mark holds copies only and
//! is erased; with its mark, whatever the page after it holds is no longer needed. Each item has
//! a checksum, and one that was not written to its end counts as unwritten. No word is written
//! twice between two erasures, which some flash forbids.

use super::StoreError;
use core::ops::Range;
use crc::{CRC_32_ISCSI, Crc, NoTable};
use embedded_storage::nor_flash::NorFlash;

/// Bytes of an item.
pub(super) const ITEM: usize = blvm_mesh_core::payment::ledger::RECORD_LEN;
const CHECK: usize = 4;
/// Bytes to work in: an item and its checksum in whole words of at most 32 bytes.
const ROOM: usize = 160;
/// What the header of a page begins with; its number and a checksum follow.
const MAGIC: [u8; 4] = *b"BLVM";
const HEADER: usize = 12;
/// Says that a page has taken over what it should.
const COMPLETE: [u8; 4] = [0; 4];

static CRC: Crc<u32, NoTable> = Crc::<u32, NoTable>::new(&CRC_32_ISCSI);

type Result<T> = core::result::Result<T, StoreError>;
/// Where an item is: the places of a ring count from its first page on.
pub(super) type Place = u16;
/// What is done with each item of a page.
type Each<'a, R> = dyn FnMut(&mut R, Place, &mut [u8; ITEM]) -> Result<()> + 'a;
/// Whether the item at a place is still wanted; what is to be written of it, to the second place.
pub(super) type Keep<'a> = dyn FnMut(&mut [u8; ITEM], Place, Place) -> bool + 'a;

/// Buffers of a flash driver may need an alignment.
#[repr(align(4))]
struct Room([u8; ROOM]);

/// A page that is written to.
#[derive(Debug, Clone, Copy)]
struct Page {
    at: u32,
    /// Pages that were begun before it, and itself.
    number: u32,
    /// Places of items that are taken.
    used: u32,
}

/// Items in a range of NOR flash.
pub(super) struct Ring<F> {
    flash: F,
    start: u32,
    pages: u32,
    /// `None`: not read yet, or a write failed.
    newest: Option<Page>,
}

impl<F: NorFlash> Ring<F> {
    const WORD: usize = {
        let (read, write) = (F::READ_SIZE, F::WRITE_SIZE);
        if read > write { read } else { write }
    };
    const MARK_AT: usize = HEADER.next_multiple_of(Self::WORD);
    const ITEMS_AT: usize = Self::MARK_AT + COMPLETE.len().next_multiple_of(Self::WORD);
    const PLACE: usize = (ITEM + CHECK).next_multiple_of(Self::WORD);
    /// Items of a page.
    const ITEMS: u32 = (F::ERASE_SIZE.saturating_sub(Self::ITEMS_AT) / Self::PLACE) as u32;

    /// A ring with room for more than `items` at a time; `None` if the range is too small for
    /// that, not of whole pages, or the flash has words of more than 32 bytes.
    pub(super) fn new(flash: F, range: Range<u32>, items: usize) -> Option<Self> {
        let page = F::ERASE_SIZE as u32;
        let pages = range.end.checked_sub(range.start)?.checked_div(page)?;
        // One page is erased, and one has room for what is taken over and for more.
        let room = pages.saturating_sub(2).saturating_mul(Self::ITEMS);
        let whole = range.start.is_multiple_of(page) && range.end.is_multiple_of(page);
        let named = pages.saturating_mul(Self::ITEMS) <= Place::MAX.into();
        let fits = whole && named && Self::PLACE <= ROOM && room as usize > items;
        fits.then_some(Self { flash, start: range.start, pages, newest: None })
    }

    /// Looks for the newest page, and erases what a cut of the power has left unfinished.
    pub(super) fn open(&mut self) -> Result<()> {
        let mut newest: Option<Page> = None;
        for at in 0..self.pages {
            if let Some(number) = self.number(at)?
                && newest.is_none_or(|newest| newest.number < number)
            {
                newest = Some(Page { at, number, used: Self::ITEMS });
            }
        }
        if let Some(page) = &mut newest
            && !self.is_complete(page.at)?
        {
            self.erase(page.at)?;
            *page = Page { at: self.before(page.at), number: page.number - 1, used: Self::ITEMS };
        }
        let newest = newest.filter(|page| page.number > 0);
        let mut page = newest.unwrap_or(Page { at: self.pages - 1, number: 0, used: Self::ITEMS });
        let next = self.after(page.at);
        for at in 0..self.pages {
            if at != next && self.number(at)?.is_none() && !self.is_erased(at, 0)? {
                return Err(StoreError::Corrupted);
            }
        }
        if !self.is_erased(next, 0)? {
            // Before the first page is begun there is nothing but perhaps a part of its header.
            if page.number == 0 && !self.is_erased(next, Self::MARK_AT)? {
                return Err(StoreError::Corrupted);
            }
            self.erase(next)?;
        }
        if page.number > 0 {
            if self.number(page.at)? != Some(page.number) {
                return Err(StoreError::Corrupted);
            }
            page.used = 0;
            while page.used < Self::ITEMS && self.item(page.at, page.used)?.is_some() {
                page.used += 1;
            }
        }
        self.newest = Some(page);
        Ok(())
    }

    /// Gives every item with its place, the oldest first.
    pub(super) fn each(
        &mut self,
        on: &mut dyn FnMut(Place, &[u8; ITEM]) -> Result<()>,
    ) -> Result<()> {
        let Some(newest) = self.newest else { return Err(StoreError::Flash) };
        let mut page = newest.at;
        for _ in 0..self.pages {
            page = self.after(page);
            self.each_of(page, &mut |_, place, item| on(place, item))?;
        }
        Ok(())
    }

    fn each_of(&mut self, page: u32, on: &mut Each<'_, Self>) -> Result<()> {
        if self.number(page)?.is_none() {
            return Ok(());
        }
        for at in 0..Self::ITEMS {
            let Some(mut room) = self.item(page, at)? else { break };
            if let Some((item, rest)) = room.0.split_first_chunk_mut()
                && rest.starts_with(&check(item))
            {
                on(self, Self::named(page, at), item)?;
            }
        }
        Ok(())
    }

    /// Adds an item and returns its place; when it returns the item is kept whatever happens. Of
    /// those that came before, only those that are wanted are certain to stay.
    pub(super) fn add(&mut self, item: &[u8; ITEM], keep: &mut Keep<'_>) -> Result<Place> {
        for _ in 0..=self.pages {
            let Some(page) = self.newest.take() else { return Err(StoreError::Flash) };
            let next = match page.used < Self::ITEMS {
                true => self.put(page, item)?,
                false => self.turn(page, keep)?,
            };
            self.newest = Some(next);
            if page.at == next.at {
                return Ok(Self::named(page.at, page.used));
            }
        }
        Err(StoreError::Full)
    }

    /// Whether it is known where the next item goes.
    pub(super) const fn is_open(&self) -> bool {
        self.newest.is_some()
    }

    /// Writes an item into the next place.
    fn put(&mut self, page: Page, item: &[u8; ITEM]) -> Result<Page> {
        let room = room([item, &check(item), &[]]);
        self.write(page.at, Self::place(page.used), &room, Self::PLACE)?;
        Ok(Page { used: page.used + 1, ..page })
    }

    /// Begins the page after this one.
    fn turn(&mut self, page: Page, keep: &mut Keep<'_>) -> Result<Page> {
        let number = page.number.wrapping_add(1);
        let mut next = Page { at: self.after(page.at), number, used: 0 };
        self.write(next.at, 0, &header(number), Self::MARK_AT)?;
        let oldest = self.after(next.at);
        self.each_of(oldest, &mut |ring, place, item| {
            if keep(item, place, Self::named(next.at, next.used)) {
                next = ring.put(next, item)?;
            }
            Ok(())
        })?;
        let mark = room([&COMPLETE, &[], &[]]);
        self.write(next.at, Self::MARK_AT, &mark, Self::ITEMS_AT - Self::MARK_AT)?;
        if !self.is_erased(oldest, 0)? {
            self.erase(oldest)?;
        }
        Ok(next)
    }

    /// What is in a place; `None` if nothing was written to it.
    fn item(&mut self, page: u32, at: u32) -> Result<Option<Room>> {
        let room = self.read(page, Self::place(at), Self::PLACE)?;
        Ok(room.0.iter().take(Self::PLACE).any(|byte| *byte != 0xff).then_some(room))
    }

    /// The number of a page; `None`: it was not begun.
    fn number(&mut self, page: u32) -> Result<Option<u32>> {
        let room = self.read(page, 0, Self::MARK_AT)?;
        let number =
            |bytes: &[u8; HEADER]| u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        let number = room.0.first_chunk().map(number);
        Ok(number.filter(|n| header(*n).0[..HEADER] == room.0[..HEADER]))
    }

    fn is_complete(&mut self, page: u32) -> Result<bool> {
        let room = self.read(page, Self::MARK_AT, Self::ITEMS_AT - Self::MARK_AT)?;
        Ok(room.0.starts_with(&COMPLETE))
    }

    /// Whether a page is erased from this offset on.
    fn is_erased(&mut self, page: u32, from: usize) -> Result<bool> {
        const STEP: usize = 128;
        for offset in (from..F::ERASE_SIZE).step_by(STEP) {
            let len = STEP.min(F::ERASE_SIZE - offset);
            if self.read(page, offset, len)?.0.iter().take(len).any(|byte| *byte != 0xff) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    const fn named(page: u32, at: u32) -> Place {
        (page * Self::ITEMS + at) as Place
    }

    const fn place(at: u32) -> usize {
        Self::ITEMS_AT + at as usize * Self::PLACE
    }

    const fn after(&self, page: u32) -> u32 {
        (page + 1) % self.pages
    }

    const fn before(&self, page: u32) -> u32 {
        (page + self.pages - 1) % self.pages
    }

    fn offset(&self, page: u32) -> u32 {
        self.start + page * F::ERASE_SIZE as u32
    }

    fn read(&mut self, page: u32, offset: usize, len: usize) -> Result<Room> {
        let mut room = Room([0; ROOM]);
        let bytes = room.0.get_mut(..len).ok_or(StoreError::Flash)?;
        let from = self.offset(page) + offset as u32;
        self.flash.read(from, bytes).map_err(|_| StoreError::Flash)?;
        Ok(room)
    }

    fn write(&mut self, page: u32, offset: usize, room: &Room, len: usize) -> Result<()> {
        let bytes = room.0.get(..len).ok_or(StoreError::Flash)?;
        let to = self.offset(page) + offset as u32;
        self.flash.write(to, bytes).map_err(|_| StoreError::Flash)
    }

    fn erase(&mut self, page: u32) -> Result<()> {
        let from = self.offset(page);
        let to = from + F::ERASE_SIZE as u32;
        self.flash.erase(from, to).map_err(|_| StoreError::Flash)
    }
}

fn check(bytes: &[u8]) -> [u8; CHECK] {
    CRC.checksum(bytes).to_le_bytes()
}

fn header(number: u32) -> Room {
    let number = number.to_le_bytes();
    room([&MAGIC, &number, &check(&number)])
}

/// These bytes, and the rest as erased flash has them.
fn room(parts: [&[u8]; 3]) -> Room {
    let mut room = Room([0xff; ROOM]);
    room.0.iter_mut().zip(parts.into_iter().flatten()).for_each(|(to, from)| *to = *from);
    room
}
