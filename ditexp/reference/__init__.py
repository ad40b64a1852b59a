"""What samples are compared with: images, prepared features, or only statistics."""
