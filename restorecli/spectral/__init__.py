"""Spectra: cubes in files, their colours, and the way from a picture to them."""
