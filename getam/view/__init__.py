"""What people look at: tables, progress, overlays."""
