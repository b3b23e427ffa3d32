"""Programs that run in the guest. They print nothing themselves: what they return is sent out by the agent."""
