"""Fixtures, fakes and small examples that several test modules share."""
