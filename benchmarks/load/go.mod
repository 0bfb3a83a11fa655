module dockyard.local/load

go 1.21
