"""The command `paeplatform infer`: its options, the model that answers, and the two kinds of files it reads."""
