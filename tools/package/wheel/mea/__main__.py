from mea._program import main

main()
