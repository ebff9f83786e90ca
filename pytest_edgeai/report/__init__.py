"""Turn a finished session into what people and CI systems read."""
