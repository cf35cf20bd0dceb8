"""Programs for maintainers; users of the wheel never run them."""
