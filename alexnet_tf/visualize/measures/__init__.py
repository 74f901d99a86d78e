"""The numbers behind the figures: features, neighbours, projections, selectivity; without any drawing."""
