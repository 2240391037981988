"""The two reports as pages: drawings as SVG, the text around them, and what frameworks ask; bytes without a clock."""
