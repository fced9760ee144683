"""The version, once: `pk.__version__`, the distribution and every run's record read it here."""

VERSION = "0.2.0"
