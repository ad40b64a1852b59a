"""ditexp from Python: what `import ditexp` offers. Everything goes through the functions of the commands."""
