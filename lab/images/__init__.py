"""Container images without pulling one: Debian's packages over a debootstrap base."""
