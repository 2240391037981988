"""What a coordinator decides: who is admitted, the terms and plans of studies, what is published and revoked."""
