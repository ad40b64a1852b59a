"""Where the steps lie between t = 0 (noise) and t = 1 (data), one small file each."""
