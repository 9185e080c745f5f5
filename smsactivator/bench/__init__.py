"""Measurements, each beside another way of doing the same (``make bench``)."""
