"""What MLflow is told of a training and its model: the open run, its parameters, the logged model, its signature."""
