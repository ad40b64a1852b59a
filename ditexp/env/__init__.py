"""What a bug report needs to know of the machine and the installation."""
