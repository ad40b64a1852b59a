"""How a condition is strengthened, one small file each."""
