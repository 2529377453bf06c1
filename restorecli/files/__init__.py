"""Files that appear whole or not at all, here or at an address."""
