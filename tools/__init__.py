"""Programs of the maintainers; users of the wheel never run them."""
