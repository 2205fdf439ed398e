"""Memory planners on the networks of the Optimus and GET papers."""
