"""A page on this machine to try the tool with: drop photographs, compare, download.

`server.serve` answers at an address of this machine only. Photographs come in by HTTP, stand in the
`album`, and one thread (`worker`) restores them, one after the other, as every run does.
"""
