"""Streams of data services as tests read them."""

from pipelines import service_client


def watched(stream, services, **settings):
    """Batches one after another, each call watched."""
    watch, iterator = service_client.Watch(services, **settings), iter(stream)
    while True:
        try:
            batch = watch.call(iterator.__next__)
        except StopIteration:
            return
        yield batch
