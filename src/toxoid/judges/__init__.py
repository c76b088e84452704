"""Judges: an exchange in, a three-valued verdict out; measured against people."""
