import tensorflow as tf

from pipelines.pictures.apart import apart, taken_in


def test_functions_stay_out_of_graphs_except_where_they_are_taken_in():
    traced = []

    @apart
    def length(text):
        """How long it is."""
        traced.append(text)
        return tf.strings.length(text)

    def kept_apart():
        graph = tf.function(lambda text: length(text) + 1).get_concrete_function(tf.TensorSpec([], tf.string))
        assert graph(tf.constant("four")).numpy() == 5
        (call,) = [op for op in graph.graph.get_operations() if op.type.endswith("PartitionedCall")]
        inner = graph.graph.as_graph_def().library.function
        (function,) = [f for f in inner if f.signature.name == call.get_attr("f").name]
        return function.attr["_noinline"].b

    assert length.__doc__ == "How long it is."
    assert kept_apart()
    with taken_in():
        assert not kept_apart()
    assert kept_apart()
    assert len(traced) == 2  # once for either kind of graph
