"""From a source to rows that classifiers can learn from, split into folds and a hold-out."""
