"""What may be concluded: contrasts, nulls, decisions, census and audit; arrays and tables in, tables out."""
