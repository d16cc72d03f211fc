"""Emitters of whole operators as NKI functions: one file each."""
