mod sweep;

