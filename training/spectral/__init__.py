"""Compact networks for spectra, trained on the CAVE scenes (not shipped; Yasuma et al., 2008)."""
