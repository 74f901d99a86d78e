"""The tests, laid out as the packages are; `tests.support` holds what several of them share."""
