"""The commands of ``restore``, one module each; `restorecli.cli` registers them."""
