"""Keep what may ship: a bundle of the artifact with the report that allows it."""
