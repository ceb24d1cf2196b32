"""The accuracy experiment: heads trained on a frozen base's features in each precision, and their answers paired."""
