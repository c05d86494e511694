from stdcf_lib.itsl.command import main

if __name__ == "__main__":
    main()
