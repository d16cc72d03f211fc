"""Rainshadow: a software AWS Trainium 2 and Project Rainier."""

__version__ = "0.1.0"
