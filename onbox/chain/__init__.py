"""The parts of a chain that plain sh cannot do: seeing how a stage ended."""
