//! What goes free and what pays (DESIGN section 5).
