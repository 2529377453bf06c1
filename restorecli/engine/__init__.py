"""A network on a device, and one picture at a time through it."""
