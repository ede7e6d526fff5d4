"""The console script `metajax`: predictions, scores, features and exports of trained runs."""
