"""The commands' bodies: parse, call, show."""
