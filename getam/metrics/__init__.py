"""What is measured: ``segmentation`` (IoU) and ``classification`` (average precision, F1)."""
