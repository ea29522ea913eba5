"""Networks that turn images into features; one file each, chosen by name in `choose`."""
