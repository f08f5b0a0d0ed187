//! Links: bytes to and from one neighbour (DESIGN section 3).
