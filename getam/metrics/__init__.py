"""Measures of quality: ``segmentation`` (IoU) and ``classification`` (average precision, F1)."""
