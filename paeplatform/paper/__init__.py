"""The paper's tables, the sample that they are made on, and the paper's own numbers."""
