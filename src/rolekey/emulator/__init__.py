"""A local IAM Roles Anywhere that verifies like the service. It shares no code with the client."""
