"""How good is what a model imagines? The context|query protocol, trivial baselines, tables and pictures."""
